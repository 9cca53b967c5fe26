package rowjson

import "reflect"

// bytesPerMember is how many bytes of a row a member takes, about, to make a map of the right size.
const bytesPerMember = 16

// decodeMembers reads a row that is an object into a map, as encoding/json does. It returns false if it can't be sure of the result.
func decodeMembers(row []byte) (members map[string]any, ok bool) {
	i := skipSpace(row, 0)
	if i >= len(row) || row[i] != '{' {
		return nil, false
	}
	members = make(map[string]any, min(len(row)/bytesPerMember, 256))
	i = skipSpace(row, i+1)
	if i < len(row) && row[i] == '}' {
		return members, skipSpace(row, i+1) == len(row)
	}
	for {
		name, at, ok := scanName(row, i)
		if !ok {
			return nil, false
		}
		value, end, ok := decodeMember(row, skipSpace(row, at))
		if !ok {
			return nil, false
		}
		members[string(name)] = value // the last one of several with one name counts, as in encoding/json
		if i = skipSpace(row, end); i >= len(row) {
			return nil, false
		}
		switch row[i] {
		case ',':
			i = skipSpace(row, i+1)
		case '}':
			return members, skipSpace(row, i+1) == len(row)
		default:
			return nil, false
		}
	}
}

// decodeMember reads the JSON value that begins at row[i], as encoding/json reads it into any, and returns the place behind it. It returns
// false if it can't be sure of the result.
func decodeMember(row []byte, i int) (value any, end int, ok bool) {
	if i >= len(row) {
		return nil, i, false
	}
	switch row[i] {
	case '"':
		if end, ok = scanString(row, i); !ok {
			return nil, end, false
		}
		return string(row[i+1 : end-1]), end, true
	case 't':
		end, ok = skipLiteral(row, i, "true")
		return true, end, ok
	case 'f':
		end, ok = skipLiteral(row, i, "false")
		return false, end, ok
	case 'n':
		end, ok = skipLiteral(row, i, "null")
		return nil, end, ok
	case '{', '[':
		if end, ok = skipValue(row, i, 0); !ok {
			return nil, end, false
		}
		return value, end, unmarshal(row[i:end], reflect.ValueOf(&value)) == nil
	}
	number, end, ok := scanFloat(row, i)
	return number, end, ok
}
