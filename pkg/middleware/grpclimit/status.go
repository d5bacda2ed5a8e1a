package grpclimit

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

// denial is the status of what was denied.
func denial(res *limiter.Result) error {
	if middleware.RetryAfter(res) == 0 {
		return status.Error(codes.PermissionDenied, "access denied")
	}
	wait, text := res.RetryAfter, "rate limit exceeded"
	if wait == limiter.Never {
		// No wait will do, but a client without RetryInfo may try again at once.
		wait, text = res.Window, fmt.Sprintf("rate limit exceeded: no more than %d at once will ever pass", res.Burst)
	}
	body := middleware.NewErrorBody(res)
	st, err := status.New(codes.ResourceExhausted, text).WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
			Subject:     "policy:" + body.Error.Details.Policy,
			Description: fmt.Sprintf("limit of %d per %s exceeded", res.Limit, policy.FormatDuration(res.Window)),
			QuotaId:     body.Error.Details.Policy,
			QuotaValue:  int64(min(res.Limit, math.MaxInt64)),
		}}})
	if err != nil {
		return status.Error(codes.ResourceExhausted, text) // the details can't be encoded: their text is ASCII, so they can
	}
	return st.Err()
}

// metadata is what a client of HTTP would get as headers. Names that gRPC keeps for itself are left out.
func (o *Options) metadata(res *limiter.Result) metadata.MD {
	headers := make(http.Header, 8)
	o.Dialect.Set(headers, res, o.Now())
	if wait := middleware.RetryAfter(res); !res.Allowed && wait > 0 {
		headers.Set("Retry-After", strconv.FormatUint(wait, 10))
	}
	md := make(metadata.MD, len(headers))
	for name, values := range headers {
		if name = strings.ToLower(name); !strings.HasPrefix(name, "grpc-") && !strings.HasSuffix(name, "-bin") {
			md[name] = values
		}
	}
	return md
}
