package batch

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// KeyText returns the text that a JSON value has in a store's key. A string is its text, without escapes; true and false
// are themselves. A number has one text, however it is spelled: 7, 7.0 and 70e-1 are one key, as they are one shard key.
// Nothing is rounded: 1.50 is 1.5, and a number of more than 32 places is written as digits, the letter e and a power of
// ten. Only a number whose exponent has 18 digits or more may have the text huge or tiny instead of its digits. The string
// "7" has the same text as the number 7. The error says that the value is an object, an array, null, or not JSON.
func KeyText(value []byte) (string, error) {
	value = bytes.TrimSpace(value)
	switch {
	case len(value) == 0:
		return "", errors.New("it is empty")
	case value[0] == '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err
	case string(value) == "true", string(value) == "false", isCanonicalInteger(value):
		return string(value), nil
	case value[0] != '-' && (value[0] < '0' || value[0] > '9'):
		return "", errors.New("it is no string, number, true or false, as a key that goes by value must be")
	}
	canonical, ok := appendNumber(nil, value)
	if !ok {
		return "", errors.New("it is no number of JSON")
	}
	return withPoint(string(canonical)), nil
}

// withPoint writes a canonical number with a decimal point if its power of ten is negative and it has at most
// maxWrittenDigits digits and decimal places. It returns any other canonical number unchanged.
func withPoint(canonical string) string {
	number, negative := strings.CutPrefix(canonical, "-")
	digits, power, found := strings.Cut(number, "e-")
	places, err := strconv.Atoi(power)
	if !found || err != nil || places > maxWrittenDigits || len(digits) > maxWrittenDigits {
		return canonical
	}
	if short := places + 1 - len(digits); short > 0 {
		digits = strings.Repeat("0", short) + digits
	}
	text := digits[:len(digits)-places] + "." + digits[len(digits)-places:]
	if negative {
		return "-" + text
	}
	return text
}
