-- As page, from the newest of a range back.
SELECT sized.sequence, sized.entry_id, sized.fingerprint, sized.recorded_at, sized.body
FROM (
    SELECT page.*, sum(octet_length(page.body)) OVER (ORDER BY page.sequence DESC) AS bytes,
        row_number() OVER (ORDER BY page.sequence DESC) AS place
    FROM (
        SELECT entry.sequence, entry.entry_id, entry.fingerprint, entry.recorded_at, entry.body
        FROM perdure.log_entries AS entry
        WHERE entry.tenant_id = %(tenant_id)s AND entry.log_id = %(log_id)s
            AND entry.epoch = (
                SELECT log.epoch FROM perdure.logs AS log
                WHERE log.tenant_id = %(tenant_id)s AND log.log_id = %(log_id)s)
            AND entry.sequence <= %(from)s
        ORDER BY entry.sequence DESC
        LIMIT %(limit)s
    ) AS page
) AS sized
WHERE sized.place = 1 OR sized.bytes <= %(bytes_max)s
ORDER BY sized.sequence DESC
