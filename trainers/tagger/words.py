# ruff: noqa: E501 - lists of words are read in one piece
"""Word lists from which ``casting`` builds organisations, places, professions and numbers.

Guarantees: nothing but words. Does not: claim to be complete; what the tagger has to learn is the context around them.

Example:
    >>> "Monday" in WEEKDAYS
    True
"""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\n") for part in text.strip("\n").split("|"))


MONTHS = _split("January|February|March|April|May|June|July|August|September|October|November|December")
WEEKDAYS = _split("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday")
ONSETS = _split("b|br|c|ch|cl|d|dr|f|fl|g|gr|h|j|k|kr|l|m|n|p|pl|qu|r|s|sh|st|t|tr|v|w|x|z|th|sk|sp")
VOWELS = _split("a|e|i|o|u|ai|ea|io|ou|oo|y|ia")
CODAS = _split("|n|r|l|s|x|t|m|nt|rd|nd|k|tor|ra|lis|vex|com|soft|tech|med|gen|labs|ly|ify|io|zon|base|path")
FIELDS = _split(
    "Systems|Technologies|Partners|Logistics|Foods|Energy|Capital|Media|Consulting|Holdings|Analytics|Health|Pharma|Insurance|Bank|Brothers|Motors|Airlines|Networks|Labs|Software|Studios|Records|Entertainment|Industries|Steel|Chemicals|Textiles|Shipping|Construction|Properties|Realty|Investments|Financial|Credit Union|Group|Associates|Solutions|Services|International|Transit|Care|Markets|Data|Design|Travel|Hotels|Press|Publishing|Telecom|Electric|Marine|Farms|Dairy|Bakery|Brewery|Furniture|Law Group|Plumbing|Roofing|Dental|Pharmacy|Optical"
)
ADJECTIVES = _split(
    "National|United|General|First|Global|Modern|Royal|Eastern|Western|Northern|Southern|Central|Pacific|Atlantic|Allied|Advanced|Premier|Golden|Silver|Blue|Green|Red|Bright|Smart|Rapid|Prime|True|Open|Liberty|Heritage|Summit|Apex|Quantum|Digital|Urban|Coastal|Mutual|Independent|Public|Free"
)
NOUNS = _split(
    "River|Stone|Bridge|Harbor|Falcon|Cedar|Maple|Eagle|Lion|Star|Moon|Sun|Cloud|Forest|Mountain|Valley|Garden|Tower|Anchor|Compass|Lighthouse|Mirror|Window|Silk|Iron|Copper|Ember|Willow|Orchid|Raven|Wolf|Bear|Horse|Arrow|Crown|Shield|Market|Mill|Lake|Ocean|Island|Road|Winter|Summer|Morning|Night|Shadow|Fire|Rain|Snow|Bread|Paper|Glass|Wire|Loop|Spark|Pixel|Signal|Vector|Nimbus"
)
COMPANY_FORMS = _split(
    " Inc.|, Inc.| Inc| LLC|, LLC| Ltd.| Ltd| Limited| plc| PLC| Corp.| Corporation| Co.| Company| GmbH| AG| S.A.| SA| SpA| S.r.l.| B.V.| N.V.| AB| A/S| Oy| Sp. z o.o.| A.Ş.| Group| Holdings| & Co.| and Sons| & Sons| LP| LLP| Pty Ltd| KG| SE| SARL| d.o.o."
)
SAINTS = _split(
    "St. Mary|St. John|Saint Luke|St. Anne|St Thomas|St. Vincent|Saint Joseph|St. Elizabeth|Sacred Heart|Good Samaritan|Mercy|Holy Cross"
)
SUBJECTS = _split(
    "Agriculture|Technology|Economics|Cardiology|Oncology|Pediatrics|Music|Fine Arts|Law|Theology|Nursing|Engineering|Human Rights|Social Policy|Public Health|Marine Biology|Veterans|Education|Journalism|Forestry|Physics"
)
ORGANISATIONS = _split(
    "{town} General Hospital|{saint} Hospital|{saint}'s Medical Center|{town} Medical Center|{last} Memorial Hospital|{last} Clinic|{town} University Hospital|{town} Community Health Center|{invented} Dialysis Center|{last} Family Practice|University of {town}|{town} University|{last} University|{town} State College|{last} College|{town} High School|{last} Elementary School|{saint} School|{town} Secondary Grammar School|{town} Public Library|Academy of {subject}|Institute of {subject}|Faculty of {subject}, University of {town}|{last} Foundation|{adjective} {subject} Association|Association for {subject}|Union of {subject} Workers|{town} Rowing Club|{town} United|{town} FC|{town} City Council|{town} Municipality|{town} Fire Department|{town} Police Department|{town} Prison|{town} Airport|The {town} Times|{town} Gazette|{town} Herald|Daily {noun}|{adjective} {noun}|{noun} Party|{adjective} Workers' Party|{acronym}|{acronym} (the {adjective} {subject} Union)|{noun} Village Co-operative|{last} & {last} Attorneys|{last} Law Offices|Church of {saint}|{saint} Parish|{town} Synagogue|{town} Mosque|{noun} Orchestra|{town} Philharmonic|{town} Museum of {subject}|Museum of {subject}|{noun} Theatre|Hotel {invented}|{noun} Inn|{last}'s Diner|{noun} Nursing Home|{town} Retirement Village|{adjective} Federation of {subject}|International {subject} Society|{town} Chamber of Commerce|{acronym} Local {noun}|Comradeship {noun}|{town} Power Plant|{town} Steelworks|{town} Military Academy|{town} Barracks|State Railways of {town}|Fund for {subject}|Board of {subject}"
)
BODIES = _split(
    "{town} District Court|{town} Regional Court|{town} Court of Appeal|{town} City Court|the {town} Administrative Court|{town} Labour Court|{town} Magistrates' Court|{town} Assize Court|{town} State Security Court|{town} County Court|Superior Court of {town}|{town} Court of First Instance|the {town} public prosecutor's office|{town} Prosecutor's Office|{town} Tax Office|the Mayor of {town}|{town} Social Insurance Board|{town} Land Registry|{town} Police Headquarters|{town} Building Authority|the {region} Governor's Office|{town} Municipal Council|{town} Bar Association|{town} Commercial Court|{town} Family Court|District Court of {town}|Court of Appeal of {town}|the {town} Enforcement Court|{town} Social Court|{town} Cadastre Court|{town} Water Board|{town} Remand Centre|{town} Prison|{region} Circuit Court|United States District Court for the District of {town}"
)
REGIONS = _split(
    "{name} County|the county of {name}|{name} Province|the province of {name}|{name} District|{name} Parish|the {name} region|the district of {name}|{name} Township|{name} Borough|the canton of {name}|the village of {name}|the municipality of {name}"
)
PLACES = _split(
    "{last} Square|{town} Square|Lake {invented}|Mount {last}|{invented} River|{noun} Bridge|{last} Park|{noun} Hill|{invented} Valley|{last} Street|{noun} Beach|{town} Station|{last} Building|{noun} Tower|{invented} Forest|Old {town}|Port {last}|{noun} Plaza|{last} Hall|plot no. 142 in {town}|{invented} Island|{noun} Creek|the {town} cemetery|{town} Bay|East {town}|{noun} Mall|{last} Ranch"
)
UNITS = _split("Apt. |Apt |Suite |Unit |#|Flat |Floor |Room |apt |Ste. |Bldg ")
STATE_CODES = _split(
    "AL|AZ|CA|CO|FL|GA|IL|IN|KS|MA|MD|MI|MN|MO|NC|NJ|NM|NV|NY|OH|OK|OR|PA|TN|TX|UT|VA|WA|WI|QC|ON|BC|NSW|VIC|SP|RJ|PR"
)
STATES = _split(
    "Alabama|Alaska|Arizona|California|Colorado|Connecticut|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|Ohio|Oklahoma|Oregon|Pennsylvania|South Carolina|Tennessee|Texas|Utah|Vermont|Virginia|Washington|Wisconsin|Wyoming|Bavaria|Ontario|Quebec|Catalonia|Queensland|Saxony"
)
COUNTRIES = _split(
    "Austria|Germany|Poland|Turkey|France|Spain|Italy|Sweden|Norway|Finland|Denmark|Hungary|Cyprus|Greece|Romania|Bulgaria|Croatia|Slovenia|Slovakia|Estonia|Latvia|Lithuania|Ukraine|Russia|Georgia|Armenia|Moldova|Portugal|Ireland|the United Kingdom|United Kingdom|England|Scotland|Wales|Belgium|the Netherlands|Switzerland|Canada|United States|the United States|USA|Mexico|Brazil|Argentina|Chile|Peru|Uruguay|Colombia|India|Pakistan|China|Japan|South Korea|Vietnam|Thailand|Malaysia|Indonesia|Australia|New Zealand|Nigeria|Ghana|Kenya|Ethiopia|Egypt|Morocco|Tunisia|Algeria|South Africa|Israel|Lebanon|Syria|Iraq|Iran|Saudi Arabia|Afghanistan|Albania|Serbia|Bosnia-Herzegovina|Iceland|Greenland|Cuba|Jamaica|Haiti|the Philippines|Nepal|Sri Lanka"
)
WORLD_CITIES = _split(
    "Ankara|Istanbul|Izmir|Warsaw|Kraków|Gdańsk|Vienna|Graz|Linz|Berlin|Hamburg|Stuttgart|Munich|Paris|Lyon|Marseille|Madrid|Seville|Rome|Milan|Naples|Athens|Nicosia|Bucharest|Budapest|Prague|Brno|Sofia|Zagreb|Ljubljana|Moscow|Kyiv|Vilnius|Riga|Tallinn|Helsinki|Oslo|Stockholm|Copenhagen|London|Leeds|Manchester|Glasgow|Dublin|Boston|Chicago|Houston|Phoenix|Denver|Seattle|Portland|Atlanta|Miami|Detroit|Cleveland|Toronto|Montreal|Vancouver|Sydney|Melbourne|Auckland|Tokyo|Seoul|Mumbai|Delhi|Karachi|Lagos|Nairobi|Cairo|Lisbon|Porto|Diyarbakır|Mersin|Łódź|Poznań|Szczecin|Salzburg|Innsbruck|Zürich|Geneva"
)
CODE_FORMS = _split(
    "#####|######|#######|########|##########|###-##-####|##-#######|####-####-####-####|#### #### #### ####|@######|@@######|@@-######|@@@-####|##/##|#####/##|####/##|###/##|@.####/##|@@ ### ###/##|##-@@-####|no. #####/##|@#######|#@@####|@@##@@####|###.###.###|@@##-#####|####-##-@@|@-##-####|@@@######|#-######-##|II K ###/##|@@## #### #### #### ####"
)
CURRENCY_CODES = _split("EUR|USD|PLN|TRL|TRY|GBP|SEK|DEM|ATS|CHF|NOK|HUF|CZK|CYP|RON|CAD|AUD")
CURRENCIES = _split(
    "euros|dollars|Polish zlotys|Turkish liras|German marks|Austrian schillings|pounds sterling|Swedish kronor|francs|Hungarian forints|Swiss francs|pounds|Norwegian kroner"
)
NUMBERS = _split(
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|sixteen|twenty|thirty|forty|seventy-one|a hundred"
)
COUNTED = _split(
    "other accused|hearings|other persons|co-defendants|shares|brothers|children|sisters|apartments|plots of land|horses|employees|witnesses|cows|letters|envelopes|other detainees|reindeer|boxes"
)
MEASURES = _split("hectares|square metres|litres|kilograms of heroin|sq. m|acres|tonnes|shares|kg|km")
PHONE_FORMS = _split(
    "###-###-####|(###) ###-####|###.###.####|+1-###-###-####|+44 #### ######|0### ### ####|+49 ### #######|###-####|+48 ### ### ###|## ## ## ## ##|+46 (0)# ### ### ##|(##) ###-###|##########|ext. ####|###-###-#### x###"
)
MAIL_HOSTS = _split(
    "gmail.com|yahoo.com|outlook.com|mail.example.org|hospital.example|cuvox.de|jourrapide.com|dayrep.com|proton.me|company.co.uk|uni-example.de|example.net"
)
DOMAINS = _split("com|org|net|co.uk|de|fr|pl|se|hu|info|io|com.au|dk|cz|biz")
NATIONALITIES = _split(
    "Austrian|German|Polish|Turkish|Kurdish|French|Spanish|Italian|Swedish|Norwegian|Finnish|Danish|Hungarian|Cypriot|Greek|Greek-Cypriot|Romanian|Bulgarian|Croatian|Slovak|Czech|Ukrainian|Russian|Chechen|Roma|Sami|Basque|Catalan|Jewish|Armenian|Georgian|Iranian|Iraqi|Syrian|Nigerian|Ghanaian|Somali|Ethiopian|Indian|Pakistani|Tamil|Chinese|Vietnamese|Japanese|Korean|Filipino|Mexican|Brazilian|Cuban|Haitian|Dominican|Canadian|American|Irish|Scottish|Welsh|English|British|Dutch|Belgian|Swiss|Portuguese|Moroccan|Tunisian|Algerian|Egyptian|Lebanese|Israeli|Palestinian|Australian|Latvian|Lithuanian|Estonian|Serbian|Bosnian|Albanian|Hispanic|Cherokee|Navajo|Maori|Cambodian|Hmong|Peruvian|Chilean|Kenyan|Afghan|Uighur|Frisian|Breton|Corsican|Inuit|Circassian|cambodian|saudi"
)
PEOPLES = _split("Saudis|Germans|Poles|Turks|Swedes|Kurds|Armenians|Tamils")
RELIGIONS = _split(
    "Catholic|Roman Catholic|Muslim|Sunni|Shia|Alevi|Jewish|Orthodox|Greek Orthodox|Lutheran|Protestant|Baptist|Methodist|Hindu|Sikh|Buddhist|Mormon|Jehovah's Witness|Jehovah's Witnesses|Pentecostal|atheist|Quaker|Seventh-day Adventist"
)
PROFESSIONS = _split(
    "primary school teacher|teacher|civil servant|university professor|lawyer|notary|police officer|customs officer|taxi driver|truck driver|bus driver|farmer|dairy farmer|fisherman|carpenter|electrician|plumber|welder|mechanic|nurse|surgeon|dentist|pharmacist|journalist|editor-in-chief|newspaper editor|photographer|ballet dancer|musician|violinist|actor|painter|architect|civil engineer|software engineer|accountant|bookkeeper|bank manager|cashier|shopkeeper|butcher|baker|chef|waitress|barber|hairdresser|tailor|seamstress|cleaner|janitor|security guard|soldier|army officer|colonel|conscript|sailor|pilot|flight attendant|student|medical student|law student|student at a military academy|retired teacher|retired miner|pensioner|housewife|trade union leader|politician|member of parliament|mayor|village headman|imam|priest|rabbi|building contractor|real estate agent|insurance agent|businessman|company director|managing director|factory worker|steelworker|miner|construction worker|gardener|beekeeper|librarian|translator|interpreter|psychologist|social worker|veterinarian|firefighter|paramedic|postman|warehouse worker|salesman|bartender|forester|reindeer herder|footballer|boxer|tennis player|physician|paediatrician|psychiatrist|chemist|historian|geologist|shepherd|judge|prosecutor|prison guard|bailiff"
)
RELATIVES = _split(
    "his mother|her mother|his father|her father|his wife|her husband|his brother|his elder brother|her younger sister|his sister|his son|her son|his daughter|her daughter|their two children|his three children|her four sons|his grandmother|her grandfather|his uncle|her aunt|his cousin|his nephew|her niece|his brother-in-law|her mother-in-law|his parents|her parents|his late wife|her ex-husband|his former wife|his fiancée|her partner|his stepson|her twin sister|his widow"
)
WORKS = _split(
    "The {noun} of {town}|{adjective} {noun}|A History of {town}|{noun} and {noun}|the “{adjective} {noun}” case|The Last {noun}|Songs of the {noun}|{town} Nights|The {adjective} {noun} Report|Notes on {noun}|The {noun}'s Daughter"
)
EVENTS = _split(
    "the {town} Marathon|All Saints' Day|the {noun} Festival|Labor Day|Newroz|the {town} riots|the {town} earthquake|the {town} Fair|Operation {noun}|the {noun} Cup|Independence Day|the {town} Conference|Ramadan|Christmas Eve|the May Day rally"
)
