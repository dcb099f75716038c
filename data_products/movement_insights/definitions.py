"""The code location of the domain movement_insights."""

from data_products.assembly import domain_definitions

defs = domain_definitions(__package__)
