DROP FUNCTION perdure.sweep_rows(bigint, integer);
DROP FUNCTION perdure.erase_rows(uuid, uuid, bigint, integer);
DROP FUNCTION perdure.restore_rows(uuid, text, jsonb, text[], bytea[], bigint[], text[], timestamptz[], timestamptz[],
    timestamptz[], integer);
DROP FUNCTION perdure.write_rows(uuid, text, jsonb, text[], bytea[], timestamptz[], bigint[], text[], text, integer);
DROP FUNCTION perdure.release_container(uuid, uuid);
DROP FUNCTION perdure.drop_name_if_empty(uuid, uuid);
DROP FUNCTION perdure.hold_container(uuid, text, jsonb);
DROP TABLE perdure.versioned_rows;
DROP TABLE perdure.row_containers;
