package query

// Subject is a column that was added to a result, of type text: whose row it is.
type Subject struct {
	Name string // what the policy calls them
	As   string // what the column is called
}
