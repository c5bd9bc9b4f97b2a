DROP FUNCTION perdure.end_run(uuid, uuid, text, text, jsonb, uuid, uuid, text, timestamptz);
DROP FUNCTION perdure.close_open_work(uuid, uuid, text, uuid, timestamptz);
DROP FUNCTION perdure.bury_undelivered(uuid, uuid, uuid, timestamptz);
DROP FUNCTION perdure.insert_events(uuid, bigint, jsonb, uuid, text, text, timestamptz, integer, integer);
DROP FUNCTION perdure.number_events(uuid, text, integer);
DROP FUNCTION perdure.admit_tenant(uuid, text);
DROP FUNCTION perdure.leave_tenant(text);
DROP FUNCTION perdure.enter_tenant(uuid, uuid);
DROP FUNCTION perdure.draft_event(uuid, text, text, uuid, uuid, uuid, jsonb);
