package mask

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxPaths = 100
	maxDepth = 8
)

// Keep makes the parameter keep of mask json of paths as policies write them:
// keys with dots between, a key that is no plain word in double quotes.
func Keep(list []string) (string, error) {
	var all [][]string
	for _, s := range list {
		p, err := path(s)
		if err != nil {
			return "", err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b []string) int { return slices.Compare(a, b) })
	for i := 1; i < len(all); i++ {
		if a := all[i-1]; len(a) <= len(all[i]) && slices.Equal(a, all[i][:len(a)]) {
			return "", fmt.Errorf("keep: %s is there with all that is below it: leave out what repeats it", strings.Join(a, "."))
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("keep: %w", err)
	}
	keep := string(b)
	_, err = paths(keep)
	return keep, err
}

// paths reads the parameter.
func paths(keep string) ([][]string, error) {
	var all [][]string
	if keep == "" || json.Unmarshal([]byte(keep), &all) != nil || len(all) == 0 {
		return nil, errors.New("mask json needs keep: the paths that are shown, like [visit.day, severity]")
	}
	if len(all) > maxPaths {
		return nil, fmt.Errorf("keep: more than %d paths", maxPaths)
	}
	for _, p := range all {
		if len(p) == 0 || len(p) > maxDepth {
			return nil, fmt.Errorf("keep: a path has from 1 to %d keys", maxDepth)
		}
		for _, k := range p {
			if err := checkConstant(k); err != nil || k == "" {
				return nil, fmt.Errorf("keep: a key is text without control characters and backslashes, at most %d bytes", maxConstant)
			}
		}
	}
	return all, nil
}

// path reads a.b."odd key".
func path(s string) ([]string, error) {
	var out []string
	for rest := s; ; {
		key := ""
		if strings.HasPrefix(rest, `"`) {
			closed := false
			for i := 1; i < len(rest); i++ {
				if rest[i] != '"' {
					key += rest[i : i+1]
					continue
				}
				if i+1 < len(rest) && rest[i+1] == '"' { // "" stands for one
					key += `"`
					i++
					continue
				}
				rest, closed = rest[i+1:], true
				break
			}
			if !closed {
				return nil, fmt.Errorf("keep: %s: a quoted key has no end", s)
			}
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			key, rest = rest[:end], rest[end:]
			if strings.ContainsAny(key, "\"[]*$ ") {
				return nil, fmt.Errorf("keep: %s: put a key that is no plain word in double quotes; what is in an array has the path of the array", s)
			}
		}
		out = append(out, key)
		switch {
		case rest == "":
			return out, nil
		case rest[0] != '.':
			return nil, fmt.Errorf("keep: %s: a quoted key is followed by something else than a dot", s)
		}
		rest = rest[1:]
	}
}
