SELECT registry.version FROM perdure.route_registry AS registry
