-- The old counts under the project names that all else uses.

with named as (
    select
        _slice as day,
        page_title,
        count as views,
        string_split(lower(ez_project), '.') as parts
    from traffic.pagecounts_ez
)

select
    day,
    case
        when parts[2] = 'wd' then 'wikidata'
        when parts[1] = 'www' then family
        else parts[1] || '.' || family
    end as project,
    page_title as article,
    cast(sum(views) as bigint) as views
from (
    select
        *,
        case parts[2]
            when 'b' then 'wikibooks'
            when 'd' then 'wiktionary'
            when 'f' then 'wikimediafoundation'
            when 'm' then 'wikimedia'
            when 'n' then 'wikinews'
            when 'q' then 'wikiquote'
            when 's' then 'wikisource'
            when 'v' then 'wikiversity'
            when 'voy' then 'wikivoyage'
            when 'w' then 'mediawiki'
            else 'wikipedia'
        end as family
    from named
)
group by day, project, article
