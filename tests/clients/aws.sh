#!/usr/bin/env bash
# The AWS command line: aws s3, and some of aws s3api.
source "$(dirname -- "$(readlink -f -- "$0")")/scenarios.sh"

# an answer that should not have been given shall not be hidden by a retry
export AWS_MAX_ATTEMPTS=1 AWS_PAGER=
bucket=s3://cli

a_bucket_is_made_and_listed() {
    aws s3 mb $bucket
    aws s3 ls >listed
    says ' cli' listed
}

a_file_goes_up_and_down() {
    noise 100000 >file
    aws s3 cp --only-show-errors file "$bucket/a file ü+%"
    aws s3 cp --only-show-errors "$bucket/a file ü+%" back
    same file back
    aws s3 ls "$bucket/a file" >listed
    says ' 100000 a file ü+%' listed
}

a_large_file_goes_in_parts() {
    noise $((21 << 20)) >large
    aws s3 cp --only-show-errors large $bucket/large
    aws s3api head-object --bucket cli --key large --query ETag >tag
    says '-3' tag
    aws s3 cp --only-show-errors $bucket/large back
    same large back
    aws s3 cp --only-show-errors $bucket/large $bucket/copy
    aws s3 cp --only-show-errors $bucket/copy back
    same large back
}

pipes_go_up_and_down() {
    noise $((9 << 20)) 1 >file
    aws s3 cp --only-show-errors - $bucket/pipe <file
    aws s3 cp --only-show-errors $bucket/pipe - | cmp - file
}

what_is_said_of_a_file_is_kept() {
    noise 1000 >page.html
    aws s3 cp --only-show-errors page.html $bucket/page.html --metadata color=green --cache-control max-age=60
    aws s3api head-object --bucket cli --key page.html >head
    says '"ContentType": "text/html"' head
    says '"CacheControl": "max-age=60"' head
    says '"color": "green"' head
    aws s3 cp --only-show-errors $bucket/page.html $bucket/page2.html
    aws s3api head-object --bucket cli --key page2.html >head
    says '"color": "green"' head
}

a_directory_is_synchronised_both_ways() {
    tree up
    aws s3 sync --only-show-errors up $bucket/tree
    aws s3 sync --only-show-errors $bucket/tree down
    same up down
    aws s3 sync up $bucket/tree >again
    [[ ! -s again ]] # nothing has changed
    rm -r up/b/c
    echo changed >up/a.txt
    aws s3 sync --only-show-errors --delete up $bucket/tree
    aws s3 sync --only-show-errors --delete $bucket/tree down
    same <(cd up && find . -type f | sort) <(cd down && find . -type f | sort)
    same up/a.txt down/a.txt
    aws s3 sync --only-show-errors $bucket/tree $bucket/tree2
    rm -r down
    aws s3 sync --only-show-errors $bucket/tree2 down
    same up/b down/b
}

folders_are_listed() {
    aws s3 ls $bucket/tree/ >listed
    says ' PRE b/' listed
    says ' 8 a.txt' listed
    aws s3 ls --recursive --summarize $bucket/tree/b/ >listed
    says 'Total Objects: 3' listed
    says "tree/b/quote'd \"twice\"" listed
    refused aws s3 ls $bucket/none/
}

files_are_moved() {
    aws s3 mv --only-show-errors $bucket/pipe $bucket/moved
    refused aws s3 ls $bucket/pipe
    aws s3 mv --only-show-errors $bucket/moved back
    same file back
    refused aws s3 ls $bucket/moved
}

a_url_may_be_given_away() {
    echo value | aws s3 cp --only-show-errors - $bucket/given
    python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end="")' \
        "$(aws s3 presign $bucket/given --expires-in 60)" >got
    says value got
}

a_write_may_be_conditional() {
    aws s3api put-object --bucket cli --key once --body file --if-none-match '*' >/dev/null
    refused aws s3api put-object --bucket cli --key once --body file --if-none-match '*'
    says PreconditionFailed refusal
    aws s3api put-object --bucket cli --key sums --body file --checksum-algorithm CRC64NVME >put
    says ChecksumCRC64NVME put
}

a_bucket_that_is_not_empty_stays() {
    refused aws s3 rb $bucket
    says BucketNotEmpty refusal
    aws s3 ls $bucket/given >listed
}

whoever_has_no_key_is_refused() {
    AWS_SECRET_ACCESS_KEY=wrong refused aws s3 ls $bucket
    says SignatureDoesNotMatch refusal
    refused aws --no-sign-request s3 ls $bucket
    says AccessDenied refusal
}

files_are_removed() {
    aws s3 rm --only-show-errors $bucket/given
    refused aws s3 ls $bucket/given
    aws s3 rm --only-show-errors --recursive $bucket/tree
    refused aws s3 ls $bucket/tree/
    aws s3 ls $bucket/tree2/ >listed
}

all_of_it_can_be_purged() {
    aws s3 rm --only-show-errors --recursive $bucket
    aws s3 rb $bucket
    refused aws s3 ls $bucket
    says NoSuchBucket refusal
}

holds a_bucket_is_made_and_listed a_file_goes_up_and_down a_large_file_goes_in_parts pipes_go_up_and_down \
    what_is_said_of_a_file_is_kept a_directory_is_synchronised_both_ways folders_are_listed files_are_moved \
    a_url_may_be_given_away a_write_may_be_conditional a_bucket_that_is_not_empty_stays \
    whoever_has_no_key_is_refused files_are_removed all_of_it_can_be_purged
