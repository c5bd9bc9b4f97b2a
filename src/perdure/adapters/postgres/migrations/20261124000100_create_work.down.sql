DROP TABLE perdure.work_requests;
DROP TABLE perdure.work_history;
DROP TABLE perdure.work_attributes;
DROP TABLE perdure.work_units;
DROP TABLE perdure.work_transitions;
DROP FUNCTION perdure.guard_work_unit();
DROP DOMAIN perdure.work_event;
DROP DOMAIN perdure.work_status;
