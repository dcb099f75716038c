"""Run as a program in a process of its own: a shop whose products are computed on the cluster that the environment names.

Prints one line of JSON: what was read, what was computed, and by how many executors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from platform_resources.config import load_settings
from platform_resources.engines.spark import spark_session
from platform_resources.sourcing import Source
from tests.engines import conftest as kit

SALES = """\
      - {name: order_id, logicalType: integer}
      - {name: shop, logicalType: string}
"""
FUNCTION = '''
from __future__ import annotations

from typing import TYPE_CHECKING

from platform_resources import data_product

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@data_product(inputs={"orders": "shop/orders"})
def totals(orders: DataFrame) -> DataFrame:
    """What was sold."""
    return orders.repartition(4).select("order_id", "shop")
'''


def main(project: Path) -> None:
    settings = load_settings()
    shop = kit.Shop(project, settings)
    first = shop.put("orders", *(kit.order(number, f"shop {number % 7}") for number in range(500)))
    shop.put("orders", kit.order(500, "é"))
    product = Source(shop.contract("orders"), shop.lakehouse)
    found: dict[str, Any] = {"read": [product.spark().count(), product.at(first.snapshot_id).spark().count()]}
    query = "select shop, count(*) as orders, cast(sum(amount) as decimal(38,2)) as total from shop.orders group by shop"
    shop.totals(query, incremental="key", more="{property: incrementalKey, value: [shop]}, {property: engine, value: spark}")
    plans = [shop.derive().plan]
    shop.put("orders", kit.order(501, "é"), kit.order(502, None))
    plans.append(shop.derive().plan)
    found["totals"] = {str(row[0]): row[1] for row in shop.rows()}
    shop.lakehouse.drop("shop.totals")
    shop.totals(FUNCTION, incremental="append", properties=SALES, suffix="py")
    plans.append(shop.derive().plan)
    shop.put("orders", kit.order(503, "z"))
    plans.append(shop.derive().plan)
    found["sold"] = sorted(row[0] for row in shop.rows())
    context = spark_session(settings).sparkContext
    found |= {
        "plans": plans,
        "application": context.applicationId,
        "executors": len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
