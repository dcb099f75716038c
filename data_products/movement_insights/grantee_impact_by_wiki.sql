-- Grants that were to show on each wiki, year by year, beside what was edited and read there.

with granted as (
    select
        database_code,
        year,
        count(*) as grants,
        sum(usd) as amount_usd
    from (
        select distinct request_id, unnest(wikis) as database_code, calendar_year as year, usd_over_grant_life as usd
        from movement_insights.grants_input_metrics
        where not blocklisted
    )
    group by database_code, year
),

edited as (
    select
        wiki_id as database_code,
        cast(year(day) as integer) as year,
        sum(edits - bot) as edits
    from activity.edit_statistics
    group by wiki_id, year
),

read as (
    select
        project,
        cast(year(day) as integer) as year,
        sum(views) as views
    from traffic.pageview_per_article
    where agent = 'user'
    group by project, year
)

select
    granted.database_code,
    granted.year,
    wiki.english_name as wiki,
    wiki.database_group,
    wiki.language_name as language,
    granted.grants,
    cast(granted.amount_usd as decimal(18, 2)) as amount_usd,
    cast(edited.edits as bigint) as edits,
    cast(read.views as bigint) as views
from granted
left join movement_insights.wiki__current as wiki on wiki.database_code = granted.database_code
left join edited on edited.database_code = granted.database_code and edited.year = granted.year
left join read on read.project = regexp_replace(wiki.domain_name, '^www[.]|[.]org$', '', 'g') and read.year = granted.year
