"""The code location of the domain traffic."""

from data_products.assembly import domain_definitions

defs = domain_definitions(__package__)
