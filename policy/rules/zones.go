package rules

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a host without zone files must decide the same

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// zones are the time zones that conditions name, read while loading: an
// evaluation reads no file.
var zones sync.Map // name -> *time.Location

// learnZone reads a zone's name ("Europe/Berlin") or offset ("+02:00").
func learnZone(name string) error {
	loc, err := time.LoadLocation(name)
	if strings.Contains(name, ":") {
		var t time.Time
		if t, err = time.Parse("-07:00", name); err == nil {
			_, sec := t.Zone()
			loc = time.FixedZone(name, sec)
		}
	}
	if err != nil || name == "" || name == "Local" {
		return fmt.Errorf("time zone %q is not known: use a name like \"Europe/Berlin\", or an offset like \"+02:00\"", name)
	}
	zones.Store(name, loc)
	return nil
}

// accessors are CEL's functions on timestamps that take a zone, by name: the
// suffix of the overload's name, and what they give.
var accessors = map[string]struct {
	overload string
	get      func(time.Time) int
}{
	"getFullYear":     {"timestamp_to_year_with_tz", time.Time.Year},
	"getMonth":        {"timestamp_to_month_with_tz", func(t time.Time) int { return int(t.Month()) - 1 }},
	"getDayOfYear":    {"timestamp_to_day_of_year_with_tz", func(t time.Time) int { return t.YearDay() - 1 }},
	"getDayOfMonth":   {"timestamp_to_day_of_month_with_tz", func(t time.Time) int { return t.Day() - 1 }},
	"getDate":         {"timestamp_to_day_of_month_1_based_with_tz", time.Time.Day},
	"getDayOfWeek":    {"timestamp_to_day_of_week_with_tz", func(t time.Time) int { return int(t.Weekday()) }},
	"getHours":        {"timestamp_to_hours_with_tz", time.Time.Hour},
	"getMinutes":      {"timestamp_to_minutes_with_tz", time.Time.Minute},
	"getSeconds":      {"timestamp_to_seconds_tz", time.Time.Second},
	"getMilliseconds": {"timestamp_to_milliseconds_with_tz", func(t time.Time) int { return t.Nanosecond() / 1e6 }},
}

// zoned replaces them by ones that know only the zones that were learned.
func zoned() []cel.EnvOption {
	var out []cel.EnvOption
	for name, a := range accessors {
		get := a.get
		out = append(out, cel.Function(name, cel.MemberOverload(a.overload, []*cel.Type{cel.TimestampType, cel.StringType}, cel.IntType,
			cel.BinaryBinding(func(t, zone ref.Val) ref.Val {
				at, ok := t.(types.Timestamp)
				loc, known := zones.Load(zone.Value())
				if !ok || !known {
					return types.NewErr("no such time zone")
				}
				return types.Int(get(at.In(loc.(*time.Location))))
			}))))
	}
	return out
}
