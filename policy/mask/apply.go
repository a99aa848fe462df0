package mask

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy"
)

// Apply is the output form: what m shows of a value that is not NULL, given
// as the text of a type. Dates are in ISO form, as PostgreSQL prints them with
// DateStyle ISO; moments come back in UTC. null reports that NULL takes the
// value's place, as it does for a mask or a text that is not understood.
func Apply(m policy.Mask, typ, text string) (out string, null bool) {
	if Check(m) != nil {
		return "", true
	}
	m = unkeyed(m)
	switch {
	case m.Kind == Redact && isText(typ):
		return constant(m), false
	case m.Kind == Partial && isText(typ):
		if typ == "bpchar" {
			text = strings.TrimRight(text, " ") // padding
		}
		return partial(m, text), false
	case m.Kind == Year:
		return year(typ, text)
	}
	return "", true
}

func partial(m policy.Mask, text string) string {
	chars := []rune(text)
	if len(chars) <= m.First+m.Last {
		return hidden
	}
	some := false
	for i, c := range chars[m.First : len(chars)-m.Last] {
		if !strings.ContainsRune(separators, c) {
			chars[m.First+i] = '*'
			some = true
		}
	}
	if !some {
		return hidden
	}
	return string(chars)
}

// isoDate matches a date or a moment in ISO form.
var isoDate = regexp.MustCompile(`^(\d{4,7})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})?)?([+-]\d\d(?::\d\d){0,2})?( BC)?$`)

func year(typ, text string) (out string, null bool) {
	if typ != "date" && typ != "timestamp" && typ != "timestamptz" {
		return "", true
	}
	if text == "infinity" || text == "-infinity" {
		return text, false
	}
	f := isoDate.FindStringSubmatch(text)
	if f == nil || (f[4] == "") != (typ == "date") || (f[7] == "") == (typ == "timestamptz") {
		return "", true
	}
	n := make([]int, 7)
	for i := 1; i < len(n); i++ {
		n[i], _ = strconv.Atoi(f[i]) // digits, or "" for 0
	}
	y := n[1]
	if f[8] != "" {
		y = 1 - y // there is no year 0
	}
	if typ == "timestamptz" {
		zone := time.FixedZone("", offset(f[7]))
		y = time.Date(y, time.Month(n[2]), n[3], n[4], n[5], n[6], 0, zone).UTC().Year()
	}
	era := ""
	if y < 1 {
		y, era = 1-y, " BC"
	}
	rest := map[string]string{"date": "", "timestamp": " 00:00:00", "timestamptz": " 00:00:00+00"}
	return fmt.Sprintf("%04d-01-01%s%s", y, rest[typ], era), false
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
