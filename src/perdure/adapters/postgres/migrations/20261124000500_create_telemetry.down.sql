DROP FUNCTION perdure.write_telemetry(uuid, text, uuid, text, uuid[], text[], timestamptz[], text[], text[], text[],
    text[], text[], text[], text[], integer);
DROP TABLE perdure.telemetry_entries;
DROP TABLE perdure.telemetry_spaces;
DROP DOMAIN perdure.telemetry_type;
