"""What goes wrong in operation, done on purpose to real workers on Apache Kafka: ``make faults``."""
