SELECT perdure.finish_route_events(%(event_ids)s::text[], %(patience_ms)s)
