package main

import (
	"fmt"
	"regexp"
	"strings"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/policy/detect"
)

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)

// fieldKey is schema.relation.column as policies write it.
func fieldKey(parts ...string) string {
	for i, p := range parts {
		if !plainName.MatchString(p) {
			parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
		}
	}
	return strings.Join(parts, ".")
}

// quoted is a YAML scalar of any text.
func quoted(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return fmt.Sprintf("%+q", s)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// remark is a text that ends with its line.
func remark(s string) string { return strings.ReplaceAll(render.Line(s), "\n", " ") }

// yaml writes a policy of one rule, with the reasons beside it.
func (s *suggestion) yaml() string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	put("# What \"sallyport policy suggest\" proposes for database %s, of %s in %s, read as %s.", remark(s.Database), count(s.Columns, "column"), count(s.Tables, "table"), remark(s.Role))
	put("# A guess of samples and names: review each line, and look at what is not here.")
	put("# Names of people have no form; free text may hold what no sample showed.")
	if len(s.Proposals) == 0 {
		put("# Nothing was found.")
	} else {
		put("rules:")
		put("  - name: suggested masks")
		put("    identity: \"*\"")
		put("    resource: {name: %s, database: %s}", quoted(pattern(s.Resource)), quoted(pattern(s.Database)))
		put("    fields:")
		for _, p := range s.Proposals {
			put("      # %s", remark(p.reason()))
			put("      %s: %s", quoted(p.Field), quoted(p.Mask))
		}
		put("    effect: mask")
	}
	if len(s.Unread) > 0 {
		put("\n# Not looked at:")
		for _, u := range s.Unread {
			line := u.Field + ": " + u.Reason
			if u.Hint != "" {
				line += "; its name says " + u.Hint
			}
			put("#   %s", remark(line))
		}
	}
	return b.String()
}

// pattern is the pattern that matches a name alone.
func pattern(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(s)
}

// reason is why a column is proposed, without a value.
func (p *proposal) reason() string {
	how := fmt.Sprintf("%d of %s", p.Hits, count(p.Values, "value"))
	switch p.Why {
	case byText:
		how = "within text, in " + how
	case byName:
		how = "by its name"
		if p.Values > 0 && p.Kind != detect.Name.String() && p.Kind != detect.Place.String() { // they have none
			how += fmt.Sprintf("; none of %s has such a form", count(p.Values, "value"))
		}
	}
	out := fmt.Sprintf("%s, %d %%: %s", p.Kind, p.Confidence, how)
	if len(p.Also) > 0 {
		out += "; also " + strings.Join(p.Also, ", ")
	}
	return out
}
