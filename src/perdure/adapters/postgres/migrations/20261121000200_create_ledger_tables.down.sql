DROP TABLE perdure.run_checkpoints;
DROP TABLE perdure.tool_calls;
DROP TABLE perdure.effects;
DROP TABLE perdure.steps;
DROP TABLE perdure.runs;
DROP TABLE perdure.signals;
