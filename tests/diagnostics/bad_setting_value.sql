SET 'execution.checkpointing.interval' = 'soon';
SET 'table.local-time-zone' = 'Europe/Berlim';
