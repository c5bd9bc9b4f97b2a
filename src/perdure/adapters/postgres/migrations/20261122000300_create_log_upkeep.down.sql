DROP FUNCTION perdure.sweep_logs(bigint, bigint, integer);
DROP FUNCTION perdure.restore_log(uuid, text, jsonb, jsonb, bigint[], text[], text[], timestamptz[], bytea[], integer);
DROP FUNCTION perdure.erase_log(uuid, uuid, bigint, integer);
DROP FUNCTION perdure.clear_log(uuid, uuid, text, integer);
DROP FUNCTION perdure.trim_log(uuid, uuid, bigint, timestamptz, bigint, text, integer);
DROP FUNCTION perdure.configure_log(uuid, text, jsonb, jsonb, bigint, text, integer);
