"""The code location of the domain content."""

from data_products.assembly import domain_definitions

defs = domain_definitions(__package__)
