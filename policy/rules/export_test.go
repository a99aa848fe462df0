package rules

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
