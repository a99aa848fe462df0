package rules

import "reflect"

// MatchGlob matches a text, and says whether the pattern has one in common
// with a pattern made of the text; ok is false for no pattern.
func MatchGlob(pattern, text string) (match, overlaps, ok bool) {
	g, err := parseGlob(pattern)
	if err != nil {
		return false, false, false
	}
	wide, err := parseGlob(escape(text) + "*")
	if err != nil {
		return false, false, false
	}
	return g.match(text), g.overlaps(wide) && wide.overlaps(g), true
}

func escape(s string) string {
	var out []rune
	for _, r := range s {
		out = append(out, '\\', r)
	}
	return string(out)
}

// Words lists what the language's manual must name: groups, their commands
// but definitions, fields of variables, reserved names, kinds of requests.
func Words() []string {
	words := append([]string{}, reserved...)
	for g, cmds := range groups {
		words = append(words, g)
		if g != "ddl" {
			words = append(words, cmds...)
		}
	}
	words = append(words, loose...)
	for _, k := range kindNames {
		words = append(words, k)
	}
	for _, v := range []any{identityVar{}, processVar{}, resourceVar{}, sessionVar{}, statementVar{}, requestVar{}, objectVar{}} {
		t := reflect.TypeOf(v)
		for i := range t.NumField() {
			words = append(words, t.Field(i).Tag.Get("cel"))
		}
	}
	return append(words, "approve", "filter", "reveal", "limits", "name", "effect", "identity", "resource", "commands", "relations",
		"fields", "condition", "except", "functions", "record", "record_limit", "reason", "remedy", "process", "statement", "request", "now",
		"allow", "mask", "block", "full", "events", "labels", "database")
}
