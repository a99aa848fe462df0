package query

import "reflect"

// Same reports that two analyses of one text say the same of it, by whatever versions of
// the catalog.
func (a *Analysis) Same(b *Analysis) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		switch x.Type().Field(i).Name {
		case "Version", "Memo":
		case "Prepares", "Declares":
			if !sameNamed(x.Field(i).Interface().(map[string]*Analysis), y.Field(i).Interface().(map[string]*Analysis)) {
				return false
			}
		default:
			if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
				return false
			}
		}
	}
	return true
}

func sameNamed(a, b map[string]*Analysis) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		if y, ok := b[name]; !ok || !x.Same(y) {
			return false
		}
	}
	return true
}
