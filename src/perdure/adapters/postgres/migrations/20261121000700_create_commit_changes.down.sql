DROP FUNCTION perdure.commit_changes(uuid, text, uuid, jsonb);
DROP FUNCTION perdure.commit_change(uuid, text, uuid, jsonb);
DROP FUNCTION perdure.commit_many(uuid, text, jsonb, timestamptz);
DROP FUNCTION perdure.announce_change(uuid, bigint, jsonb, jsonb, timestamptz);
DROP FUNCTION perdure.try_write_change(uuid, jsonb, timestamptz);
DROP FUNCTION perdure.write_change(uuid, jsonb, timestamptz);
DROP FUNCTION perdure.settle_run(uuid, uuid, jsonb, timestamptz);
