#!/usr/bin/env bash
# s3cmd, which builds its requests itself.
source "$(dirname -- "$(readlink -f -- "$0")")/scenarios.sh"

cat >.s3cfg <<EOF
[default]
access_key = $AWS_ACCESS_KEY_ID
secret_key = $AWS_SECRET_ACCESS_KEY
host_base = $host
host_bucket = $host
use_https = False
multipart_chunk_size_mb = 5
max_retries = 1
EOF
bucket=s3://s3cmd

s3cmd() {
    command s3cmd --config .s3cfg --no-progress "$@"
}

a_bucket_is_made_and_listed() {
    s3cmd mb $bucket
    s3cmd ls >listed
    says $bucket listed
}

a_file_goes_up_and_down() {
    noise 100000 >file
    s3cmd put file "$bucket/a file ü+%"
    s3cmd get "$bucket/a file ü+%" back
    same file back
    s3cmd ls "$bucket/a file" >listed
    says '100000' listed
    says "$bucket/a file ü+%" listed
}

a_large_file_goes_in_parts() {
    noise $((12 << 20)) >large
    s3cmd put large $bucket/large
    aws s3api head-object --bucket s3cmd --key large --query ETag >tag
    says '-3' tag
    s3cmd get --force $bucket/large back
    same large back
    head -c 6000000 large >back
    s3cmd get --continue $bucket/large back
    same large back
}

pipes_go_up_and_down() {
    s3cmd put - $bucket/pipe <large
    s3cmd get $bucket/pipe - | cmp - large
}

what_is_said_of_a_file_is_kept() {
    s3cmd put --add-header x-amz-meta-color:green --mime-type text/x file $bucket/described
    s3cmd info $bucket/described >said
    says 'MIME type: text/x' said
    says "MD5 sum:   $(md5sum <file | cut -d' ' -f1)" said
    says 'x-amz-meta-color: green' said
    s3cmd modify --add-header Cache-Control:no-cache $bucket/described
    s3cmd info $bucket/described >said
    says 'x-amz-meta-color: green' said
    s3cmd info $bucket >said
    says Location said
}

a_directory_is_synchronised_both_ways() {
    tree up
    s3cmd sync up/ $bucket/tree/
    mkdir down
    s3cmd sync $bucket/tree/ down/
    same up down
    s3cmd sync up/ $bucket/tree/ >again
    ! grep -q ^upload again
    rm -r up/b/c
    echo changed >up/a.txt
    s3cmd sync --delete-removed up/ $bucket/tree/
    s3cmd ls --recursive $bucket/tree/ >listed
    ! grep -q /b/c/ listed
    s3cmd get --force $bucket/tree/a.txt back
    same up/a.txt back
}

files_are_copied_and_moved() {
    s3cmd cp "$bucket/a file ü+%" $bucket/copy
    s3cmd mv $bucket/copy "$bucket/moved ü"
    s3cmd get --force "$bucket/moved ü" back
    same file back
    s3cmd ls $bucket/copy >listed
    [[ ! -s listed ]]
    s3cmd cp --recursive $bucket/tree/ $bucket/tree2/
    s3cmd get --force "$bucket/tree2/b/with spaces" back
    same 'up/b/with spaces' back
}

folders_are_listed() {
    s3cmd ls $bucket/tree/ >listed
    says "DIR  $bucket/tree/b/" listed
    s3cmd du $bucket/tree >said
    says "$bucket/tree" said
}

a_url_may_be_given_away() {
    python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' \
        "$(s3cmd signurl $bucket/described +60)" >back
    same file back
}

a_bucket_that_is_not_empty_stays() {
    refused s3cmd rb $bucket
    says BucketNotEmpty refusal
}

whoever_has_no_key_is_refused() {
    refused s3cmd --secret_key wrong ls $bucket
    says SignatureDoesNotMatch refusal
}

all_of_it_can_be_purged() {
    s3cmd del "$bucket/a file ü+%"
    s3cmd del --recursive --force $bucket/tree2/
    s3cmd ls $bucket/tree2/ >listed
    [[ ! -s listed ]]
    s3cmd del --recursive --force $bucket
    s3cmd multipart $bucket >listed
    s3cmd rb $bucket
    s3cmd ls >listed
    [[ ! -s listed ]]
}

holds a_bucket_is_made_and_listed a_file_goes_up_and_down a_large_file_goes_in_parts pipes_go_up_and_down \
    what_is_said_of_a_file_is_kept a_directory_is_synchronised_both_ways files_are_copied_and_moved \
    folders_are_listed a_url_may_be_given_away a_bucket_that_is_not_empty_stays whoever_has_no_key_is_refused \
    all_of_it_can_be_purged
