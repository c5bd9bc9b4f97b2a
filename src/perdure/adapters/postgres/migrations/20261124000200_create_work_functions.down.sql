DROP FUNCTION perdure.delete_work(uuid, uuid, uuid, uuid, bigint, jsonb, text, integer);
DROP FUNCTION perdure.beat_work(uuid, uuid, uuid, text, timestamptz, integer);
DROP FUNCTION perdure.put_work_unit(perdure.work_units, perdure.work_units);
DROP FUNCTION perdure.commit_work(uuid, text, uuid, uuid, jsonb, text, integer);
DROP FUNCTION perdure.step_work_parent(uuid, uuid, uuid, text);
DROP FUNCTION perdure.add_work_entries(uuid, uuid, uuid, jsonb);
DROP FUNCTION perdure.work_numbers_taken(uuid, uuid, uuid, jsonb, jsonb);
DROP FUNCTION perdure.load_work(uuid, uuid, uuid);
DROP FUNCTION perdure.work_json(perdure.work_units);
