"""Amazon SQS: standard queues whose calls cost the same however deep a queue is. FIFO queues are refused."""
