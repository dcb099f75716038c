-- The requests that are pageviews: somebody was shown a page's content. One row in, at most one row out.
--
-- The definition is https://meta.wikimedia.org/wiki/Research:Page_view as Wikimedia's own code reads it (analytics/refinery/source), and
-- its judge are the golden vectors of the tests. A request counts when it succeeded, was for a wiki that counts, and either the web was
-- answered with a page or an app said so itself.

with requests as (
    select
        meta.id as request_id,
        dt,
        ip,
        user_agent,
        accept_language,
        coalesce(referer, '-') as referer,
        geocoded_data.country_code as country_code,
        http_status,
        content_type,
        regexp_replace(lower(trim(uri_host)), '\.$', '') as host,
        uri_path,
        -- A path may be a whole address, carry its query, and have doubled slashes; such a one is no page by its path, it can have a title.
        regexp_replace(regexp_replace(regexp_replace(uri_path, '^https?://[^/]*', ''), '\?.*$', ''), '//+', '/', 'g') as path,
        coalesce(uri_query, '') as query,
        -- The web's titles write a space as +, in a query only.
        replace(regexp_extract(uri_query, '^\??(?:.*?&)??title=([^&]+)', 1), '+', '_') as title_asked,
        replace(regexp_extract(uri_query, '^\??(?:.*?&)??page=([^&]+)', 1), '+', '_') as page_asked,
        coalesce(contains(user_agent, 'WikipediaApp'), false) as is_app,
        -- Said twice, the last word holds.
        trim(regexp_extract(coalesce(x_analytics, ''), '^(?:.*;)?pageview=([^;]*)', 1)) as said_pageview,
        trim(regexp_extract(coalesce(x_analytics, ''), '^(?:.*;)?preview=([^;]*)', 1)) as said_preview,
        trim(regexp_extract(coalesce(x_analytics, ''), '^(?:.*;)?debug=([^;]*)', 1)) as said_debug,
        lower(trim(regexp_extract(coalesce(x_analytics, ''), '^(?:.*;)?special=([^;]*)', 1))) as said_special,
        try_cast(regexp_extract(x_analytics, '(?:^|;)\s*page_id=(\d+)', 1) as bigint) as page_id,
        try_cast(regexp_extract(x_analytics, '(?:^|;)\s*ns=(-?\d+)', 1) as integer) as namespace_id
    from traffic.webrequest
    where meta.domain is distinct from 'canary'
),

pageviews as (
    select
        *,
        string_split(regexp_replace(host, '\.org$', ''), '.') as labels,
        regexp_replace(path, '#.*$', '') as page_path,
        regexp_replace(regexp_extract(referer, '^(?:https?|android-app)://([^/?#]*)', 1), ':\d*$', '') as referer_host
    from requests
    where http_status in ('200', '304')
        -- The wikis that count: no test, donation or arbitration wiki, no wiki of one committee.
        and (
            regexp_matches(host, '^([a-z][a-z0-9_-]*\.)*wiki(books|news|pedia|quote|source|versity|voyage)\.org$|^([a-z][a-z0-9_-]*\.)*wiktionary\.org$')
                and not regexp_matches(host, '(^|\.)(www|donate|arbcom|sysop)')
            or regexp_matches(host, '^([a-z0-9_-]+\.)*(wikifunctions|wikidata|mediawiki|wikimediafoundation)\.org$')
                and not regexp_matches(host, '(^|\.)(test|query)')
            or regexp_matches(
                host,
                '^(advisory|commons|foundation|incubator|meta|outreach|species|strategy|usability|wikimania|wikitech|[a-z]{2,3})'
                || '\.((m|mobile|wap|zero)\.)?wikimedia\.org$'
            ) and not starts_with(host, 'doc')
        )
        -- Nothing that MediaWiki says is a preview, a test, or a special page that shows no content.
        and said_preview <> '1'
        and said_debug <> '1'
        and (
            said_special in ('search', 'recentchanges', 'version', 'viewobject', 'allevents')
            or said_special || said_preview || said_debug = ''
        )
        and case
            when is_app then said_pageview = '1'
            else regexp_matches(content_type, '^text/html(; charset=(iso-8859-1|ISO-8859-1|utf-8|UTF-8))?$')
                and not contains(uri_path, 'api.php')
                and (
                    regexp_matches(uri_path, '^(/sr(-(ec|el))?|/w(iki)?|/v(iew)?|/zh(-(cn|hans|hant|hk|mo|my|sg|tw))?)/')
                    or regexp_matches(query, '\?((cur|old)id|title|search)=')
                )
                and not regexp_matches(query, 'action=(edit|submit)')
        end
),

read_paths as (
    -- A path that nobody can decode has no title; it is a pageview all the same.
    select
        *,
        replace(try(url_decode(case
            when title_asked <> '' then title_asked
            when page_asked <> '' and not (
                contains(path, '/wiki/') and not contains(path, 'index.') or contains(path, '/w/index.php/')
                or regexp_matches(path, '^/api/rest_v1/page/(mobile-sections-lead|mobile-sections|mobile-html)/')
            ) then page_asked
            when contains(path, 'index.') and not contains(path, '/w/index.php/') and not starts_with(path, '/api/rest_v1/page/mobile-') then null
            else coalesce(
                nullif(regexp_extract(page_path, '/api/rest_v1/page/(?:mobile-sections-lead|mobile-sections|mobile-html)/(.+)', 1), ''),
                nullif(regexp_extract(page_path, '/wiki/(.+)', 1), ''),
                nullif(regexp_extract(page_path, '/w/(?:index\.php/)?(.+)', 1), ''),
                case
                    when contains(page_path, '/view/') then regexp_extract(page_path, '/view/(?:.+/)?([^/]*)$', 1)
                    else regexp_extract(page_path, '^[^/]*/[^/]*/(.+)', 1)
                end
            )
        end)), ' ', '_') as title,
        case
            when referer in ('', '-') then 'none'
            when not regexp_matches(referer_host, '^[a-zA-Z0-9_:-]+(\.[a-zA-Z0-9_:-]*){1,10}$')
                or not regexp_matches(referer_host, '[a-zA-Z]') or ends_with(referer_host, '..org') then 'unknown'
            when regexp_matches(
                referer_host,
                '(^|\.)(mediawiki|wikimedia|wikimediafoundation|wiktionary|wiki(books|data|news|pedia|quote|source|versity|voyage))\.org$'
            ) then 'internal'
        end as referer_kind
    from pageviews
),

named_referers as (
    -- A site is known by its host; an app of Android by its package, which reads the other way round.
    select
        *,
        case
            when referer_kind is not null then null
            when regexp_matches(referer_host, '(^|\.)chatgpt\.com$') then 'ChatGPT'
            when regexp_matches(referer_host, '(^|\.)claude\.ai$') then 'Claude'
            when regexp_matches(referer_host, '(^|\.)copilot\.microsoft\.com$') then 'Copilot'
            when regexp_matches(referer_host, '(^|\.)(gemini\.google\.com|deepmind\.google)$') then 'Gemini'
            when regexp_matches(referer_host, '(^|\.)grok\.com$') then 'Grok'
            when regexp_matches(referer_host, '(^|\.)perplexity\.ai$') then 'Perplexity'
        end as chatbot,
        case
            when referer_kind is not null then null
            when regexp_matches(referer_host, '(^|\.)search\.aol\.') then 'AOL'
            when regexp_matches(referer_host, '(^|\.)ask\.com$') then 'Ask'
            when regexp_matches(referer_host, '(^|\.)search\.auone\.jp$') then 'AU'
            when regexp_matches(referer_host, '(^|\.)baidu\.com$') then 'Baidu'
            when regexp_matches(referer_host, '(^|\.)bing\.com$') then 'Bing'
            when regexp_matches(referer_host, '(^|\.)search\.brave\.com$') then 'Brave'
            when regexp_matches(referer_host, '(^|\.)coccoc\.com$') then 'Coc Coc'
            when regexp_matches(referer_host, '(^|\.)search\.daum\.net$') then 'Daum'
            when regexp_matches(referer_host, '(^|\.)duckduckgo\.(com$|mobile\.android)') then 'DuckDuckGo'
            when regexp_matches(referer_host, '(^|\.)docomo\.ne\.jp$') then 'Docomo'
            when regexp_matches(referer_host, '(^|\.)ecosia\.(org$|android)') then 'Ecosia'
            when regexp_matches(referer_host, '(^|\.)google\.([a-z]{2,3}(\.[a-z]{0,3})?$|android|earth)') then 'Google'
            when regexp_matches(referer_host, '(^|\.)translate\.googleusercontent\.')
                and regexp_matches(referer, '\?.*(prev=search|client=srp)') then 'Google Translate'
            when regexp_matches(referer_host, '(^|\.)kagi\.com$') then 'Kagi'
            when regexp_matches(referer_host, '(^|\.)lilo\.(org$|mobile\.android)') then 'Lilo'
            when regexp_matches(referer_host, '(^|\.)search\.myway\.com$') then 'MyWay'
            when regexp_matches(referer_host, '(^|\.)search\.naver\.com$') then 'Naver'
            when regexp_matches(referer_host, '(^|\.)petalsearch\.com$') then 'Petal'
            when regexp_matches(referer_host, '(^|\.)qwant\.(com$|liberty)') then 'Qwant'
            when regexp_matches(referer_host, '(^|\.)rakuten\.[a-z]{2,3}(\.[a-z]{0,3})?$') then 'Rakuten'
            when regexp_matches(referer_host, '(^|\.)seznam\.(cz$|sbrowser|mapy)') then 'Seznam'
            when regexp_matches(referer_host, '(^|\.)(startpage|ixquick)\.[a-z]{2,3}(\.[a-z]{0,3})?$') then 'Startpage'
            when regexp_matches(referer_host, '(^|\.)go\.mail\.ru$') then 'VK'
            when regexp_matches(referer_host, '(^|\.)search\.yahoo\.') then 'Yahoo'
            when regexp_matches(referer_host, '(^|\.)(ya\.ru$|yandex\.([a-z]{2,3}(\.[a-z]{0,3})?$|browser|searchplugin|searchapp|translate))')
                then 'Yandex'
            -- Called a search by its own name, which a place of research is not.
            when regexp_matches(referer_host, '(^.?|[^e]|[^r]e|(^|\.)(pre|secure))(search|suche)') then 'Predicted Other'
        end as search_engine,
        case
            when referer_kind is not null then null
            when regexp_matches(referer_host, '(^|\.)bsky\.app$') then 'Bluesky'
            when regexp_matches(referer_host, '(^|\.)coursera\.(org|com)$') then 'Coursera'
            when regexp_matches(referer_host, '(^|\.)discord\.com$') then 'Discord'
            when regexp_matches(referer_host, '(^|\.)(facebook\.(com|co)|messenger\.com)$') then 'Facebook'
            when regexp_matches(referer_host, '(^|\.)github\.com$') then 'Github'
            when regexp_matches(referer_host, '(^|\.)(ig\.me|(instagram|cdninstagram)\.com)$') then 'Instagram'
            when regexp_matches(referer_host, '(^|\.)(linkedin\.(com$|android)|lnkd\.in$)') then 'LinkedIn'
            when regexp_matches(referer_host, '(^|\.)medium\.com$') then 'Medium'
            when regexp_matches(referer_host, '(^|\.)(pin\.it|pinimg\.com|pinterest(\.[a-z]{2,3}){1,2})$') then 'Pinterest'
            when regexp_matches(referer_host, '(^|\.)(quora\.com|quoracdn\.net)$') then 'Quora'
            when regexp_matches(referer_host, '(^|\.)(reddit\.com$|redd\.it$)|^com\.reddit\.') then 'Reddit'
            when regexp_matches(referer_host, '(^|\.)((stackexchange|stackapps|askubuntu|blogoverflow|stackoverflow)\.com|mathoverflow\.net)$')
                then 'Stackoverflow'
            when regexp_matches(referer_host, '(^|\.)steam\.com$') then 'Steam'
            when regexp_matches(referer_host, '(^|\.)threads\.com$') then 'Threads'
            when regexp_matches(referer_host, '(^|\.)tiktok\.com$') then 'Tiktok'
            when regexp_matches(referer_host, '(^|\.)twitch\.tv$') then 'Twitch'
            when regexp_matches(referer_host, '(^|\.)(x\.com$|t\.co$|(twitter|twimg|twttr)\.(com$|android))') then 'Twitter'
            when regexp_matches(referer_host, '(^|\.)(startupschool\.org|ycombinator\.com)$') then 'Ycombinator'
            when regexp_matches(referer_host, '(^|\.)((youtube|googlevideo|ytimg)\.com|youtu\.be)$') then 'Youtube'
        end as media_site
    from read_paths
)

select
    request_id,
    dt,
    case
        when length(labels) > 4 then '-'
        when length(labels) = 1 or labels[1] in ('m', 'mobile', 'wap', 'zero', 'www', 'download') then labels[-1]
        else labels[1] || '.' || labels[-1]
    end as project,
    case
        when starts_with(path, '/w/api.php') or not contains(path, '/') then '-'
        when starts_with(path, '/view/') then coalesce(nullif(regexp_extract(path, '^/view/([^/]+)/', 1), ''), 'default')
        when starts_with(path, '/api/rest_v') or starts_with(path, '/wiki/') or starts_with(path, '/w/') then 'default'
        else coalesce(nullif(regexp_extract(path, '^[^/]*/([^/]*-[^/]*)(?:/|$)', 1), ''), 'default')
    end as language_variant,
    -- As long and of such letters as a title may be ($wgLegalTitleChars), else it is none.
    case when strlen(title) <= 512 and regexp_matches(title, '^[^#<>\[\]{}|\x00-\x1F\x7F]+$') then title else '-' end as page_title,
    page_id,
    namespace_id,
    case
        when regexp_matches(user_agent, 'Wikipedia(App|/5.0.)') then 'mobile app'
        when list_has_any(labels[:-2], ['m', 'mobile', 'wap', 'zero']) then 'mobile web'
        else 'desktop'
    end as access_method,
    -- Who says who they are by the User-Agent policy, or says nothing; what only behaves like a program is found later, by the hour.
    case when coalesce(user_agent, '-') in ('', '-') or regexp_matches(
        user_agent,
        '(?i)bot|spider|crawler|WordPress|AppEngine|AppleDictionaryService|Google-HTTP-Java-Client|facebook|yahoo|RockPeaks|PhantomJS|http'
        || '|Python-urllib|python-requests|^(goo wikipedia|Java/|curl|PHP/|Faraday|Ruby|\.NET|Python|Apache|Scrapy|PycURL|libwww|Zend|wget|nodemw'
        || '|Twisted|com\.eusoft|Lagotto|Peggo|Recuweb|Magnus|MLD|Jakarta|find-link|J\. River|projectplan9|ADmantX|LWP|iNaturalist|WikiDemo'
        || '|FSResearchIt|livedoor|Microsoft Monitoring|MediaWiki|User:|User_talk:|github|tools\.wmflabs\.org|Blackboard Safeassign'
        || '|Damn Small XSS|MeetingRoomApp|\S+@\S+\.[a-z]{2,3})'
    ) then 'spider' else 'user' end as agent_type,
    case
        when referer_kind is not null then referer_kind
        when chatbot is not null then 'external (AI chatbot)'
        when search_engine is not null then 'external (search engine)'
        when media_site is not null then 'external (media sites)'
        else 'external'
    end as referer_class,
    coalesce(chatbot, search_engine, media_site) as referer_name,
    coalesce(nullif(upper(country_code), ''), '--') as country_code,
    coalesce(user_agent, '-') as user_agent,
    md5(concat_ws(chr(31), coalesce(ip, ''), coalesce(user_agent, ''), coalesce(accept_language, ''), host)) as actor
from named_referers
