SELECT perdure.mark_routes_relayed(%(event_ids)s::text[], %(patience_ms)s)
