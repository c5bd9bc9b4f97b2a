DROP FUNCTION perdure.append_log(uuid, text, jsonb, text[], text[], bytea[], bigint, jsonb, text, integer);
DROP FUNCTION perdure.begin_log(uuid, text, jsonb, jsonb, perdure.logs, timestamptz);
DROP FUNCTION perdure.remove_remains(uuid, uuid, bigint);
DROP FUNCTION perdure.discard_epoch(perdure.logs);
DROP FUNCTION perdure.log_end(timestamptz, bigint, timestamptz);
DROP FUNCTION perdure.keep_audit(uuid, uuid, text);
DROP FUNCTION perdure.require_tenant(uuid, text);
DROP FUNCTION perdure.enter_store(uuid, integer);
