"""The metadata that the tables of the sub-domains share, with the log and the bus."""

import sqlalchemy as sa
from sqlalchemy.orm import registry

from chassis.erasures import erasure_table
from chassis.events import bus_tables
from chassis.schema import log_tables

metadata = sa.MetaData()
mapper = registry(metadata=metadata)
log = log_tables(metadata)
bus = bus_tables(metadata)
erased_record = erasure_table(metadata)
