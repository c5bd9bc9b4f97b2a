DROP TABLE perdure.entity_references;
DROP TABLE perdure.outbox_events;
DROP TABLE perdure.orchestration_events;
