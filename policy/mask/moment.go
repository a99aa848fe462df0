package mask

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy"
)

// The calendar of dates and moments begins in the course of a year: of that
// year, its beginning is shown.
const (
	firstDay  = "4714-11-24 BC"
	firstYear = -4713 // without a year 0
)

// year shows the first moment of the year, in UTC where a moment is meant: in
// the session's time zone, which is the client's to choose, a value near the
// turn of the year could be found out by moving the zone.
func year(m policy.Mask, t Type) *form { return truncated("year", m.Earliest, t) }

// moment is bucket by units of time.
func moment(m policy.Mask, t Type) *form {
	if t.Name == "time" && m.Unit == "hour" {
		return hour()
	}
	if t.Name == "date" && (m.Unit == "hour" || m.Unit == "day") {
		return nil // nothing would be hidden
	}
	return truncated(m.Unit, 0, t)
}

// truncated shows the beginning of the unit; what is before a year that is
// given shows as that year.
func truncated(unit string, earliest int, t Type) *form {
	rest := map[string]string{"date": "", "timestamp": " 00:00:00", "timestamptz": " 00:00:00+00"}
	midnight, known := rest[t.Name]
	if !known {
		return nil
	}
	at := func(day string) string { // "4713-01-01 BC"
		day, era, _ := strings.Cut(day, " ")
		if era != "" {
			era = " " + era
		}
		return literal(day+midnight+era) + "::pg_catalog." + t.Name
	}
	return &form{
		sql: func(q string) string {
			s := ""
			if earliest > 0 {
				from := at(fmt.Sprintf("%04d-01-01", earliest))
				s = " WHEN " + op(q, "<", from) + " THEN " + from
			}
			s += " WHEN NOT pg_catalog.isfinite(" + q + ") THEN " + q +
				" WHEN " + op(q, "<", at("4713-01-01 BC")) + " THEN " + at(firstDay) + " ELSE "
			switch {
			case t.Name == "timestamptz":
				s += "pg_catalog.date_trunc('" + unit + "', " + q + ", 'UTC')"
			case t.Name == "timestamp":
				s += "pg_catalog.date_trunc('" + unit + "', " + q + ")"
			default: // may be too far away for a timestamp
				month := "1"
				switch unit {
				case "month":
					month = "pg_catalog.extract('month', " + q + ")::pg_catalog.int4"
				case "quarter":
					month = op(op("pg_catalog.extract('quarter', "+q+")::pg_catalog.int4", "*", "3"), "-", "2")
				}
				s += "pg_catalog.make_date(pg_catalog.extract('year', " + q + ")::pg_catalog.int4, " + month + ", 1)"
			}
			return "CASE WHEN " + q + " IS NULL THEN NULL" + s + " END"
		},
		text: func(s string) (string, bool) {
			if s == "infinity" || s == "-infinity" {
				if s[0] == '-' && earliest > 0 {
					return fmt.Sprintf("%04d-01-01%s", earliest, midnight), false
				}
				return s, false
			}
			d, ok := parseMoment(t.Name, s)
			if !ok {
				return "", true
			}
			if earliest > 0 && d.Year() < earliest {
				return fmt.Sprintf("%04d-01-01%s", earliest, midnight), false
			}
			if d.Year() <= firstYear {
				return "4714-11-24" + midnight + " BC", false
			}
			y, month, day := d.Date()
			h := 0
			switch unit {
			case "year":
				month, day = 1, 1
			case "quarter":
				month, day = (month-1)/3*3+1, 1
			case "month":
				day = 1
			case "hour":
				h = d.Hour()
			}
			era := ""
			if y < 1 {
				y, era = 1-y, " BC"
			}
			if h > 0 {
				return fmt.Sprintf("%04d-%02d-%02d%s%s", y, month, day, strings.Replace(midnight, "00", fmt.Sprintf("%02d", h), 1), era), false
			}
			return fmt.Sprintf("%04d-%02d-%02d%s%s", y, month, day, midnight, era), false
		},
	}
}

// hour is bucket of times of the day.
func hour() *form {
	form24 := regexp.MustCompile(`^(\d\d):\d\d:\d\d(?:\.\d{1,6})?$`)
	return &form{
		sql: func(q string) string {
			return "pg_catalog.make_time(pg_catalog.extract('hour', " + q + ")::pg_catalog.int4, 0, '0'::pg_catalog.float8)"
		},
		text: func(s string) (string, bool) {
			f := form24.FindStringSubmatch(s)
			if f == nil {
				return "", true
			}
			return f[1] + ":00:00", false
		},
	}
}

// isoDate matches a date or a moment in ISO form.
var isoDate = regexp.MustCompile(`^(\d{4,7})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})?)?([+-]\d\d(?::\d\d){0,2})?( BC)?$`)

// parseMoment reads a date or a moment of a type in ISO form. Its year counts
// a year 0.
func parseMoment(typ, text string) (time.Time, bool) {
	f := isoDate.FindStringSubmatch(text)
	if f == nil || (f[4] == "") != (typ == "date") || (f[7] == "") == (typ == "timestamptz") {
		return time.Time{}, false
	}
	n := make([]int, 7)
	for i := 1; i < len(n); i++ {
		n[i], _ = strconv.Atoi(f[i]) // digits, or "" for 0
	}
	if f[8] != "" {
		n[1] = 1 - n[1] // there is no year 0
	}
	zone := time.UTC
	if typ == "timestamptz" {
		zone = time.FixedZone("", offset(f[7]))
	}
	return time.Date(n[1], time.Month(n[2]), n[3], n[4], n[5], n[6], 0, zone).UTC(), true
}

// offset returns the seconds of "+05:30".
func offset(s string) int {
	sec, unit := 0, 3600
	for part := range strings.SplitSeq(s[1:], ":") {
		n, _ := strconv.Atoi(part)
		sec += n * unit
		unit /= 60
	}
	if s[0] == '-' {
		return -sec
	}
	return sec
}
