-- The first rows of a range that fit; the very first always does. `available` is how many there were to choose from.
SELECT sized.key, sized.value, sized.version, sized.incarnation, sized.created_at, sized.updated_at, sized.expires_at,
    sized.available
FROM (
    SELECT page.*, sum(octet_length(page.value)) OVER (ORDER BY page.key) AS bytes,
        row_number() OVER (ORDER BY page.key) AS place, count(*) OVER () AS available
    FROM (
        SELECT kept.key, kept.value, kept.version, kept.incarnation, kept.created_at, kept.updated_at, kept.expires_at
        FROM perdure.versioned_rows AS kept
        WHERE kept.tenant_id = %(tenant_id)s AND kept.container_id = %(container_id)s
            AND kept.key >= %(start)s AND (%(end)s::text IS NULL OR kept.key < %(end)s::text)
            AND (%(after)s::text IS NULL OR kept.key > %(after)s::text)
            AND (kept.expires_at IS NULL OR kept.expires_at > perdure.instant())
        ORDER BY kept.key
        LIMIT %(limit)s + 1
    ) AS page
) AS sized
WHERE sized.place = 1 OR (sized.place <= %(limit)s AND sized.bytes <= %(bytes_max)s)
ORDER BY sized.key
