-- The hundred most edited pages of each wiki and UTC day, ties broken so that a rerun gives the same list.

select
    wiki_id,
    day,
    cast(row_number() over (
        partition by wiki_id, day order by edits desc, editors desc, page_id
    ) as integer) as rank,
    page_id,
    page_title,
    namespace_id,
    edits,
    editors,
    bot,
    reverted,
    bytes_added + bytes_removed as bytes_changed
from activity.edit_statistics
qualify rank <= 100
