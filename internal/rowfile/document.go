package rowfile

import "github.com/kisgrid/kisgrid/internal/yamltext"

// DeclaredTypes returns the types that the document of a function declares as source.fields. It is nil if it declares none, or can't be read.
func DeclaredTypes(document []byte) Types {
	var function struct {
		Source struct {
			Fields map[string]any `yaml:"fields"`
		} `yaml:"source"`
	}
	if yamltext.Unmarshal(document, &function) != nil || len(function.Source.Fields) == 0 {
		return nil
	}
	types := Types{}
	for field, of := range function.Source.Fields {
		text, ok := of.(string)
		if !ok { // a list, or an object
			text = "{}"
		}
		types[field] = ParseType(text)
	}
	return types
}

// Add adds the types of fields that t does not have.
func (t Types) Add(others Types) {
	for field, other := range others {
		if _, ok := t[field]; !ok {
			t[field] = other
		}
	}
}
