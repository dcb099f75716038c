-- What every page says now: its newest revision whose text may be seen. Newest by when it was saved, since an import brings old
-- revisions with new ids.

with newest as (
    -- Without the texts, since most of a page's are not wanted.
    select wiki_id, page_id, revision_id
    from content.history
    where revision_content_is_visible
    qualify row_number() over (partition by wiki_id, page_id order by revision_dt desc, revision_id desc) = 1
)

select history.*
from content.history as history
join newest on
    newest.wiki_id = history.wiki_id and newest.page_id = history.page_id and newest.revision_id = history.revision_id
