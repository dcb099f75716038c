-- The newest snapshot of each wiki and until when it holds (rule 2 of docs/products/history.md).

select
    wiki_id,
    _slice as snapshot,
    cast(_slice + interval 1 month as timestamp) at time zone 'UTC' as holds_until,
    max(_landed_at) as landed_at
from mediawiki.history_snapshot
group by wiki_id, _slice
qualify row_number() over (partition by wiki_id order by _slice desc) = 1
