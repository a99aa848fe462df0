package workload

import (
	"fmt"
	"regexp"
	"strings"
)

// maxPattern is the longest glob, in bytes.
const maxPattern = 4096

// Glob is a compiled pattern: * and ? stay within one name between slashes,
// ** crosses slashes, everything else stands for itself. "/a/**" matches what
// is below /a, not /a itself. The zero Glob matches nothing.
type Glob struct{ re *regexp.Regexp }

// CompileGlob compiles a pattern of at most 4096 bytes.
func CompileGlob(pattern string) (Glob, error) {
	if pattern == "" || len(pattern) > maxPattern {
		return Glob{}, fmt.Errorf("pattern of %d bytes: give 1 to %d", len(pattern), maxPattern)
	}
	var re strings.Builder
	re.WriteString(`(?s)\A`)
	for s := pattern; s != ""; {
		switch {
		case strings.HasPrefix(s, "**"):
			re.WriteString(`.*`)
			s = strings.TrimLeft(s, "*")
		case s[0] == '*':
			re.WriteString(`[^/]*`)
			s = s[1:]
		case s[0] == '?':
			re.WriteString(`[^/]`)
			s = s[1:]
		default:
			n := strings.IndexAny(s, "*?")
			if n < 0 {
				n = len(s)
			}
			re.WriteString(regexp.QuoteMeta(s[:n]))
			s = s[n:]
		}
	}
	re.WriteString(`\z`)
	compiled, err := regexp.Compile(re.String())
	return Glob{compiled}, err
}

// Match reports whether the whole of s matches.
func (g Glob) Match(s string) bool { return g.re != nil && g.re.MatchString(s) }

// literal reports whether a pattern stands for itself.
func literal(pattern string) bool { return !strings.ContainsAny(pattern, "*?") }
