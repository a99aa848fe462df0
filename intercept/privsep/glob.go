package privsep

import (
	"fmt"
	"regexp"
	"strings"
)

// compileGlob compiles a pattern over a cgroup path: * and ? stay within one
// name, ** crosses slashes, everything else stands for itself. "/a/**"
// matches what is below /a, not /a itself.
func compileGlob(pattern string) (*regexp.Regexp, error) {
	if !strings.HasPrefix(pattern, "/") {
		return nil, fmt.Errorf("cgroup pattern %q: give a path below the cgroup2 root, starting with /", pattern)
	}
	if len(pattern) > maxString {
		return nil, fmt.Errorf("cgroup pattern of %d bytes: at most %d", len(pattern), maxString)
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
	return regexp.Compile(re.String())
}
