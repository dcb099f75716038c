-- Grants of each country and year beside what participants edited and what was read from there. Few people are nobody.

with granted as (
    select
        country_code,
        calendar_year as year,
        count(*) as grants,
        count(distinct unique_grantee_id) as grantees,
        sum(usd_over_grant_life) as amount_usd
    from movement_insights.grants_input_metrics
    where not blocklisted and country_code is not null
    group by country_code, calendar_year
),

-- Who takes part in two grants at once edited once.
edits as (
    select
        country_code,
        day,
        wiki_id,
        user_name,
        max(edits) as edits
    from movement_insights.grant_participation
    where country_code is not null
    group by country_code, day, wiki_id, user_name
),

edited as (
    select
        country_code,
        cast(year(day) as integer) as year,
        sum(edits) as edits,
        count(distinct user_name) as participants
    from edits
    group by country_code, year
    having count(distinct user_name) >= 10
),

read as (
    select
        country.iso_alpha3_code as country_code,
        cast(year(views.day) as integer) as year,
        sum(views.views_ceil) as views
    from traffic.pageview_by_country as views
    inner join movement_insights.country__current as country on country.iso_code = views.country_code
    group by country.iso_alpha3_code, year
),

places as (
    select country_code, year from granted
    union
    select country_code, year from edited
)

select
    place.country_code,
    place.year,
    country.name as country,
    country.wikimedia_region as region,
    coalesce(granted.grants, 0) as grants,
    cast(coalesce(ceil(granted.grantees / 10.0) * 10, 0) as bigint) as grantees_ceil,
    cast(coalesce(granted.amount_usd, 0) as decimal(18, 2)) as amount_usd,
    cast(ceil(edited.participants / 10.0) * 10 as bigint) as participants_ceil,
    cast(edited.edits as bigint) as participant_edits,
    cast(read.views as bigint) as views_ceil
from places as place
inner join movement_insights.country__current as country on country.iso_alpha3_code = place.country_code and not country.is_protected
left join granted on granted.country_code = place.country_code and granted.year = place.year
left join edited on edited.country_code = place.country_code and edited.year = place.year
left join read on read.country_code = place.country_code and read.year = place.year
