SET 'execution.checkpointing.intervall' = '5 s';
