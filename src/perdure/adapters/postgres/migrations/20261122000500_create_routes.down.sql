DROP FUNCTION perdure.finish_route_events(text[], integer);
DROP FUNCTION perdure.commit_route(uuid, text, jsonb, text, text, text, integer);
DROP TABLE perdure.route_events;
DROP TABLE perdure.route_history;
DROP TABLE perdure.routes;
DROP TABLE perdure.route_registry;
