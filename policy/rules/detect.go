package rules

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/detect"
)

// formless are kinds that no detector knows by a form.
const formless = detect.Set(1<<detect.Name | 1<<detect.Place)

// kinds reads what detectors look for, as a detect.Set: names, or "*" for all.
func (r *reader) kinds(n *yaml.Node) uint64 {
	var out detect.Set
	for _, e := range r.list(n, "detect") {
		s, ok := r.text(e, "detect")
		if !ok {
			continue
		}
		k := detect.ParseKind(s)
		switch {
		case s == "*":
			out |= detect.All &^ formless
		case k == 0:
			r.bad(e, "detect: %q is no kind: use %s", s, strings.Join(detectable(), ", "))
		case formless.Has(k):
			r.bad(e, "detect: nothing has the form of a %s: name its columns in fields", k)
		default:
			out |= detect.Of(k)
		}
	}
	return uint64(out)
}

func detectable() (out []string) {
	for k := range (detect.All &^ formless).Each() {
		out = append(out, k.String())
	}
	return out
}

// on reads where detectors look: "*", schema.*, schema.relation or
// schema.relation.column.
func (r *reader) on(n *yaml.Node) (out []events.Field) {
	for _, e := range r.list(n, "on") {
		s, ok := r.text(e, "on")
		if !ok {
			continue
		}
		if s == "*" {
			out = append(out, events.Field{})
			continue
		}
		if schema, all := strings.CutSuffix(s, ".*"); all {
			if p, err := exactParts(schema, "schema.*", 1); err == nil {
				out = append(out, events.Field{Schema: p[0]})
				continue
			}
		}
		if p, err := exactParts(s, "schema.relation", 2); err == nil {
			out = append(out, events.Field{Schema: p[0], Relation: p[1]})
			continue
		}
		f, err := parseField(s)
		if err != nil {
			r.bad(e, `on: %v; or schema.relation, schema.*, or "*" for all text`, err)
			continue
		}
		out = append(out, f)
	}
	return out
}
