"""The hub: events as TM Forum JSON, posted to whoever has subscribed; a process with a database of its own."""
