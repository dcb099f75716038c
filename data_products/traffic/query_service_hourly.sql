-- How often the Wikidata Query Service answered in each UTC hour, by what it was asked with. The rule is Wikimedia's own (WDQSTagger of
-- analytics/refinery/source): requests that succeeded, to that one host, by the beginning of their path.

select
    date_trunc('hour', dt) as hour,
    case
        when starts_with(uri_path, '/sparql') or starts_with(uri_path, '/bigdata/namespace/wdq/sparql') then 'sparql'
        when starts_with(uri_path, '/bigdata/ldf') then 'ldf'
        else 'other'
    end as interface,
    count(*) as request_count
from traffic.webrequest
where lower(trim(uri_host)) = 'query.wikidata.org'
    and http_status in ('200', '304')
    and meta.domain is distinct from 'canary'
group by hour, interface
