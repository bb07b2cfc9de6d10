"""The composition root: builds the processor, and owns its threads and signals."""

from hook_event_processor.service.processor import HookEventProcessor, serve

__all__ = ["HookEventProcessor", "serve"]
