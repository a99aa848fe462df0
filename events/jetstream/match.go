package jetstream

import "strings"

// matches reports whether a subject fits a pattern with NATS's wildcards.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, t := range p {
		switch {
		case t == ">":
			return len(s) > i
		case i >= len(s) || t != "*" && t != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}
