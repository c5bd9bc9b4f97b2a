"""Effects that leave as HTTP requests."""

from __future__ import annotations

from perdure.adapters.webhooks.deliverer import RESPONSE_BYTES_MAX, WebhookDeliverer, WebhookSettings

__all__ = ["RESPONSE_BYTES_MAX", "WebhookDeliverer", "WebhookSettings"]
